"""The REST resources of the nine services: requests in, messages to the domain, documents out."""
