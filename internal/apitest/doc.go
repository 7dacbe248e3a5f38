// Package apitest compiles and runs the programs under examples/, which are a module of
// their own, against the embedded devnet: what they need is public.
package apitest
