// Package pmdtest holds tests of what pmd promises on a disk and with a clock that are
// broken: real processes on package faultfs, moved by package clock.
//
// They are the cheap, scripted part; package run has the long, random one.
package pmdtest
