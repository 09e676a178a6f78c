"""Other people's engines, unmodified, on our bundles. `make clients` installs them; without it these tests skip."""
