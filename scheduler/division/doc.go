// Package division divides a number of replicas over clusters in proportion to
// weights, which usually are their free capacities.
//
// # Method
//
// [Divide] follows Webster (Sainte-Laguë): every share first gets what it must have
// at least, and each further replica goes to the share whose weight divided by twice
// its replicas plus one is the greatest, among those that may have more. It favours
// neither large nor small shares, and, being defined replica by replica, it never
// takes one away from a share because there are more to divide (no Alabama paradox),
// as rounding by largest remainders does.
//
// # Invariants
//
//   - The result sums to the total, or there is an error; nothing is left over
//     silently.
//   - Every share is within its bounds.
//   - With all else equal, a greater total never gives a share fewer replicas.
//   - Ties go to a share that would otherwise lose a replica which it has now, then
//     to the earlier one. The result is a pure function of the arguments.
package division
