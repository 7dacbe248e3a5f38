//go:build !linux

package bao

import "io"

func holeFinder(src io.ReaderAt) HoleFinder {
	h, _ := src.(HoleFinder)
	return h
}
