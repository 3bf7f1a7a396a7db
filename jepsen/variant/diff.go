package variant

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// A diff is written as usual, but that it has no line numbers: what follows "@@" means
// nothing. What comes before the first file is for people.

// fileDiff is what a diff changes in one file.
type fileDiff struct {
	// path is relative to the module.
	path  string
	hunks []hunk
}

// hunk replaces whole lines.
type hunk struct{ old, new string }

// parseDiff reads the diff of that name.
func parseDiff(name string, text []byte) ([]fileDiff, error) {
	p := &diffParser{lines: strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")}
	for !p.done() {
		if !p.atFile() {
			if len(p.files) > 0 {
				return nil, fmt.Errorf("variant: %s, line %d: %q is no line of a diff", name, p.at+1, p.lines[p.at])
			}
			p.at++
			continue
		}
		if err := p.file(); err != nil {
			return nil, fmt.Errorf("variant: %s, line %d: %w", name, p.at+1, err)
		}
	}
	if len(p.files) == 0 {
		return nil, fmt.Errorf("variant: %s changes nothing", name)
	}
	return p.files, nil
}

type diffParser struct {
	lines []string
	at    int
	files []fileDiff
}

func (p *diffParser) done() bool { return p.at >= len(p.lines) }

// atFile reports that the two lines are here with which a file begins. One alone may be a
// line of text.
func (p *diffParser) atFile() bool {
	return p.at+1 < len(p.lines) && strings.HasPrefix(p.lines[p.at], "--- ") && strings.HasPrefix(p.lines[p.at+1], "+++ ")
}

func (p *diffParser) file() error {
	path := strings.TrimPrefix(p.lines[p.at], "--- ")
	switch {
	case path != strings.TrimPrefix(p.lines[p.at+1], "+++ "):
		return errors.New("a file is not to be renamed")
	case !filepath.IsLocal(path):
		return fmt.Errorf("%q is not within the module", path)
	case slices.ContainsFunc(p.files, func(f fileDiff) bool { return f.path == path }):
		return fmt.Errorf("%s has two places", path)
	}
	p.at += 2
	f := fileDiff{path: path}
	for !p.done() && !p.atFile() {
		h, err := p.hunk()
		if err != nil {
			return err
		}
		f.hunks = append(f.hunks, h)
	}
	if len(f.hunks) == 0 {
		return fmt.Errorf("nothing is changed in %s", path)
	}
	p.files = append(p.files, f)
	return nil
}

func (p *diffParser) hunk() (hunk, error) {
	if !strings.HasPrefix(p.lines[p.at], "@@") {
		return hunk{}, errors.New(`a hunk begins with "@@"`)
	}
	var old, replacement strings.Builder
	for p.at++; !p.done() && !p.atFile() && !strings.HasPrefix(p.lines[p.at], "@@"); p.at++ {
		sign, line := byte(' '), ""
		if text := p.lines[p.at]; text != "" { // an editor may have taken the space off an empty line
			sign, line = text[0], text[1:]
		}
		switch sign {
		case ' ':
			old.WriteString(line + "\n")
			replacement.WriteString(line + "\n")
		case '-':
			old.WriteString(line + "\n")
		case '+':
			replacement.WriteString(line + "\n")
		default:
			return hunk{}, fmt.Errorf("%q begins with no sign", p.lines[p.at])
		}
	}
	h := hunk{old: old.String(), new: replacement.String()}
	switch h.old {
	case "":
		return hunk{}, errors.New("nothing says where the hunk belongs")
	case h.new:
		return hunk{}, errors.New("the hunk changes nothing")
	}
	return h, nil
}

// apply gives the text with all hunks applied, each of which must fit in exactly one place.
func (f fileDiff) apply(text []byte) ([]byte, error) {
	for i, h := range f.hunks {
		// A line begins after the end of another one: then the first line is no exception.
		whole, old := append([]byte("\n"), text...), []byte("\n"+h.old)
		places := placesOf(whole, old)
		if len(places) != 1 {
			return nil, fmt.Errorf("variant: hunk %d of %s fits in %d places, not in one: the guard was rewritten, and its diff has to follow", i+1, f.path, len(places))
		}
		after := whole[places[0]+len(old):]
		text = slices.Concat(whole[1:places[0]+1], []byte(h.new), after)
	}
	return text, nil
}

// placesOf gives where part is, also where it overlaps itself.
func placesOf(whole, part []byte) (places []int) {
	for from := 0; ; {
		at := bytes.Index(whole[from:], part)
		if at < 0 {
			return places
		}
		places = append(places, from+at)
		from += at + 1
	}
}
