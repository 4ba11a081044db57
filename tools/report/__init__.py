"""Shows a result: pictures of findings, a contact sheet, an HTML page, a table beside the truth."""
