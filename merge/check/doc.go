// Package check runs checkers on merged files, and makes the databases that are made from account files.
//
// A file may be a jail's and hostile. It is never executed. A program of the system that reads it runs as
// nobody, in a clean environment, with a time limit. Checkers that need the jail's own programs (sshd,
// nginx) are run by package jailhooks in the jail's root, by jail(8). A checker's messages about a secret
// are not repeated.
package check
