package backup

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"
)

// LoadCredentials takes the credentials of a bucket from a file in the form of
// Amazon's shared credentials, section [default] or none, or, without a file, from
// AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN.
func LoadCredentials(file string, getenv func(string) string) (Credentials, error) {
	if file == "" {
		return Credentials{AccessKey: getenv("AWS_ACCESS_KEY_ID"), SecretKey: getenv("AWS_SECRET_ACCESS_KEY"), SessionToken: getenv("AWS_SESSION_TOKEN")}, nil
	}
	f, err := os.Open(file)
	if err != nil {
		return Credentials{}, fmt.Errorf("backup: credentials: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	var c Credentials
	section := "[default]"
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if strings.HasPrefix(line, "[") {
			section = line
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok || section != "[default]" {
			continue
		}
		value = strings.TrimSpace(value)
		switch strings.TrimSpace(key) {
		case "aws_access_key_id":
			c.AccessKey = value
		case "aws_secret_access_key":
			c.SecretKey = value
		case "aws_session_token":
			c.SessionToken = value
		}
	}
	if err := lines.Err(); err != nil {
		return Credentials{}, fmt.Errorf("backup: credentials: %w", err)
	}
	if c.AccessKey == "" || c.SecretKey == "" {
		return Credentials{}, errors.New("backup: the credentials file has no aws_access_key_id and aws_secret_access_key in its section [default]")
	}
	return c, nil
}
