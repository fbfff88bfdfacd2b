"""A job's file in; the record, the tables and the provenance of a finished run out."""
