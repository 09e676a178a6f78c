"""Present results to people: tables, the HTML page and the bundle's card."""
