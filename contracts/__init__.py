"""What the processes say to each other: records of devices, jobs, measurements, studies and trainings, and the HTTP
client that carries them."""
