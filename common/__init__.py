"""What papers share: losses, networks, data, the training core, artefacts, records and claims."""
