"""Models in front of a database that exists: one module for each library, which the extra of its name installs."""
