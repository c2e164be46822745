package main

import (
	// Everything about data directories goes through the reference's own database.
	_ "github.com/prometheus/prometheus/tsdb"
)
