"""OTP's behaviours in Python, under OTP's names."""
