// Command pmctl is the command line for users and operators of the OaaS control
// plane. This package only gives it the process; package command is the program.
package main
