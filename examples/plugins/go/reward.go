// How symmetric an image is about its vertical axis. This file is yours to change, and the description in plugin.c.
package main

import (
	"fmt"
	"strconv"
)

// Symmetry is an instance: its settings, and everything that is loaded once.
type Symmetry struct {
	contrast float64
}

// NewSymmetry makes an instance from the settings; every option that plugin.c declares is among them.
func NewSymmetry(settings map[string]string) (*Symmetry, error) {
	contrast, err := strconv.ParseFloat(settings["contrast"], 64)
	if err != nil || !(contrast >= 1 && contrast <= 100) {
		return nil, fmt.Errorf("contrast=%s is not a number from 1 to 100", settings["contrast"])
	}
	return &Symmetry{contrast}, nil
}

// Score is 1 minus the mean difference between pixels and their mirror images, times the contrast; not below 0. It may be
// called from several threads at once. An error concerns this sample only.
func (s *Symmetry) Score(sample Sample) ([]float32, error) {
	picture := sample.Picture
	half := picture.Width / 2
	if half == 0 {
		return []float32{1}, nil // a single column is its own mirror image
	}
	difference := 0
	for y := 0; y < picture.Height; y++ {
		for x := 0; x < half; x++ {
			left, right := picture.RGB(x, y), picture.RGB(picture.Width-1-x, y)
			for c := range left {
				if left[c] > right[c] {
					difference += int(left[c] - right[c])
				} else {
					difference += int(right[c] - left[c])
				}
			}
		}
	}
	mean := float64(difference) / float64(255*3*half*picture.Height)
	score := 1 - s.contrast*mean
	if score < 0 {
		score = 0
	}
	return []float32{float32(score)}, nil
}
