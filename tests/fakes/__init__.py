"""Stand-ins for systems outside, and rows that tests of several suites need."""
