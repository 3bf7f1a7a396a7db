// Package report makes one HTML page of a run: what was asked, what was broken, who led,
// how it went, and what the checks say.
//
// # Flow
//
// Render aggregates the history into as many intervals as a page can show, lays out the
// timeline as SVG, and fills one template. The page needs nothing but itself: no script,
// style or picture is loaded from anywhere.
//
// # Invariants
//
//   - The size of a page depends on its width, on the number of events and on what is handed
//     in, not on the number of operations.
//   - Whatever a name or a text contains, it is shown as text.
//   - The same history and summary give the same bytes.
package report
