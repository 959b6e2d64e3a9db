module symmetry

go 1.18
