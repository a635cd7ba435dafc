// Package k8s stands for the provider of that name; see ../../../README.md.
package k8s

type Provider struct{}
