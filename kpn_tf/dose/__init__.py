"""The dose: noise of a scan, simulated; the noise that a series has, measured; the series at a lower dose."""
