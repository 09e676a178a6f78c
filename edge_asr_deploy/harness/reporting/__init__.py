"""What people read: tables, the HTML page, the bundle's card."""
