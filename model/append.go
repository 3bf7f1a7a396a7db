package model

import (
	"bytes"
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const hexDigits = "0123456789abcdef"

// appendString writes s as a JSON string. Only what JSON demands is escaped.
// Bytes that are not UTF-8 become U+FFFD, since they could not be read again.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && size == 1 {
				b = append(append(b, s[start:i]...), "\uFFFD"...)
				start = i + 1
			}
			i += size
			continue
		}
		if c >= 0x20 && c != '"' && c != '\\' {
			i++
			continue
		}
		b = append(append(b, s[start:i]...), '\\')
		switch j := strings.IndexByte("\"\\\b\f\n\r\t", c); {
		case j >= 0:
			b = append(b, `"\bfnrt`[j])
		default:
			b = append(b, 'u', '0', '0', hexDigits[c>>4], hexDigits[c&0xF])
		}
		i++
		start = i
	}
	return append(append(b, s[start:]...), '"')
}

var errNotFinite = errors.New("a number that is not finite has no JSON form")

// appendFloat writes the shortest text that reads back as f, always with a
// decimal point or an exponent.
func appendFloat(b []byte, f float64) ([]byte, error) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return b, errNotFinite
	}
	if abs := math.Abs(f); abs != 0 && (abs < 1e-5 || abs >= 1e16) {
		text := strconv.AppendFloat(nil, f, 'e', -1, 64) // 1e-07, 1e+16
		mantissa, exponent, _ := bytes.Cut(text, []byte("e"))
		b = append(append(b, mantissa...), 'e')
		if exponent[0] == '-' {
			b = append(b, '-')
		}
		return append(b, bytes.TrimLeft(exponent, "+-0")...), nil
	}
	start := len(b)
	b = strconv.AppendFloat(b, f, 'f', -1, 64)
	if bytes.IndexByte(b[start:], '.') < 0 {
		b = append(b, '.', '0')
	}
	return b, nil
}

var errYear = errors.New("a time outside the years 0..9999 has no RFC 3339 form")

// appendTime writes t in UTC with as many groups of three fractional digits as
// it takes to lose nothing.
func appendTime(b []byte, t time.Time) ([]byte, error) {
	t = t.UTC()
	if y := t.Year(); y < 0 || y > 9999 {
		return b, errYear
	}
	layout := `"2006-01-02T15:04:05Z"`
	switch ns := t.Nanosecond(); {
	case ns == 0:
	case ns%1_000_000 == 0:
		layout = `"2006-01-02T15:04:05.000Z"`
	case ns%1_000 == 0:
		layout = `"2006-01-02T15:04:05.000000Z"`
	default:
		layout = `"2006-01-02T15:04:05.000000000Z"`
	}
	return t.AppendFormat(b, layout), nil
}
