"""Scene coordinate regression forests: trees that know which scene point a pixel shows."""
