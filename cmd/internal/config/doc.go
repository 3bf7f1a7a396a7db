// Package config fills a program's flags from a YAML file and the environment,
// so that a setting has one name and one description however it is given.
//
// A setting is declared once, as a flag. Its key in the file is the flag's name
// and its variable is the prefix, an underscore and the name in upper case with
// underscores: --http-addr is http-addr: in the file and PMD_HTTP_ADDR in the
// environment. Programs may add legacy variables per flag, which rank below
// their own.
//
// Precedence: command line, environment, legacy environment, file, default.
//
// Unknown keys in the file and unknown variables with the prefix are refused:
// a typing error must not silently become a default.
package config
