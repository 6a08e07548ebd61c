"""HTTP as bytes: connections, request heads, encoded answers, counting."""
