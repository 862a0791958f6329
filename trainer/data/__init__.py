"""Text with its licences, a vocabulary cut from the teacher's, packed rows that keep documents apart."""
