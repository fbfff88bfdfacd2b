"""Parameters of a stimulus set in; labelled images out, and the digest of what decides their pixels."""
