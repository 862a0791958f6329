"""The phone bundle: everything the runner needs on an aarch64 phone, in one content-addressed folder."""
