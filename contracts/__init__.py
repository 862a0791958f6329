"""What the processes exchange: records of devices, jobs, measurements, studies and trainings, and the HTTP client
that carries them."""
