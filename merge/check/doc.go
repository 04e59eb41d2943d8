// Package check asks checkers about merged files, and makes the databases that are made of account files.
//
// A file may be a jail's and hostile. None of it is run. A program of the system that reads it does so as nobody, in a
// clean environment, within a time. What a checker says of a secret is not repeated.
package check
