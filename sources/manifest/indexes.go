package manifest

import (
	"fmt"
	"strconv"
	"strings"
)

// countIndexes reads indexes of a Job as Kubernetes writes them, "1,3-5,7", in ascending order and below limit, and
// returns how many they are.
func countIndexes(text string, limit int) (int, error) {
	if len(text) > maxIndexesLength {
		return 0, fmt.Errorf("must not be longer than %d characters", maxIndexesLength)
	}
	count, last := 0, -1
	for part := range strings.SplitSeq(text, ",") {
		first, end, isRange := strings.Cut(part, "-")
		from, ok := parseIndex(first)
		to := from
		if isRange && ok {
			to, ok = parseIndex(end)
		}
		switch {
		case !ok || to < from:
			return 0, fmt.Errorf("%q is not allowed: must be indexes such as \"1,3-5,7\"", part)
		case from <= last:
			return 0, fmt.Errorf("%q is not allowed: indexes must be in ascending order, each once", part)
		case to >= limit:
			return 0, fmt.Errorf("%q is not allowed: must be less than completions (%d)", part, limit)
		}
		count, last = count+to-from+1, to
	}
	return count, nil
}

// parseIndex reads a whole number that is not negative.
func parseIndex(text string) (int, bool) {
	if !isDigits(text) {
		return 0, false
	}
	n, err := strconv.Atoi(text)
	return n, err == nil
}
