// Package laws holds no code: its tests check the laws of the house, each with
// the reason why it is one, over the source of all packages.
package laws
