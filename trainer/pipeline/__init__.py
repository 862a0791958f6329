"""A recipe as a chain of stages whose folders are named by what went in; killed runs go on where they were."""
