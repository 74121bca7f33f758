"""A self-contained HTML page from a comparison's directory: `page.write_page`."""
