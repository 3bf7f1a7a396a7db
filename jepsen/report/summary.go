package report

import (
	"io"
	"time"

	"oaas.io/control-plane/jepsen/history"
)

// Result is how a check came out.
type Result string

// Results.
const (
	// Holds: the promise was kept, as far as the history shows.
	Holds Result = "holds"
	// Violated: the promise was broken.
	Violated Result = "violated"
	// Undecided: the check could not come to an end, or had too little to look at.
	Undecided Result = "undecided"
)

// Verdict is what one check says.
type Verdict struct {
	Check  string `json:"check"`
	Result Result `json:"result"`
	// Promise is what was checked, in a sentence.
	Promise string `json:"promise,omitempty"`
	// Details are what was found, the most important first.
	Details []string `json:"details,omitempty"`
	// Looked says how much was looked at, as "1204 operations on 5 keys".
	Looked string        `json:"looked,omitempty"`
	Took   time.Duration `json:"took,omitempty"`
	// Attachments are the names of those that show it.
	Attachments []string `json:"attachments,omitempty"`
}

// Field is a name and a value: a figure of the run, or the version of something.
type Field struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	// Note says how to read it.
	Note string `json:"note,omitempty"`
}

// Unavailable is a fault that this machine cannot make.
type Unavailable struct {
	Nemesis string `json:"nemesis"`
	Reason  string `json:"reason"`
}

// Attachment is a file that belongs to the run. What is a picture or a page is embedded, as
// long as it is not too large; anything else is only named.
type Attachment struct {
	Name string `json:"name"`
	// Type is its media type, as "text/html" or "image/svg+xml".
	Type string `json:"type"`
	// Path is where it lies, relative to the page; empty if it is only here.
	Path string `json:"path,omitempty"`
	Data []byte `json:"-"`
}

// Summary is all that a page shows beside the history.
type Summary struct {
	// Title of the run, as "five nodes, two regions".
	Title string `json:"title"`
	// Seed and Command are how to do it again.
	Seed    uint64    `json:"seed"`
	Command string    `json:"command"`
	Began   time.Time `json:"began"`
	// Took is how long the run lasted.
	Took        time.Duration `json:"took"`
	Verdicts    []Verdict     `json:"verdicts"`
	Figures     []Field       `json:"figures"`
	Versions    []Field       `json:"versions"`
	Unavailable []Unavailable `json:"unavailable"`
	Attachments []Attachment  `json:"attachments"`
}

// Result is that of the whole run: Violated if any check found that, else Undecided if any
// could not say, else Holds.
func (s *Summary) Result() Result {
	out := Holds
	for _, v := range s.Verdicts {
		switch v.Result {
		case Violated:
			return Violated
		case Undecided:
			out = Undecided
		case Holds:
		}
	}
	return out
}

// Render writes the page of a run.
func Render(w io.Writer, h history.History, s Summary) error {
	return render(w, h, s)
}
