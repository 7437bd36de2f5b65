"""What the doctor reports: the schema and its larger parts."""
