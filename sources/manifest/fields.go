package manifest

import (
	"reflect"
	"strings"
)

// jsonName is the name of a struct field in JSON: empty where its own fields stand in its place, and "-"
// where it has none.
func jsonName(f reflect.StructField) string {
	name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
	switch {
	case f.Anonymous && (name == "" || strings.Contains(options, "inline")):
		return ""
	case name == "":
		return f.Name
	}
	return name
}

// member finds the field of a struct by its name in JSON, case-sensitively.
func member(v reflect.Value, name string) (reflect.Value, bool) {
	t := v.Type()
	for i := range t.NumField() {
		switch jsonName(t.Field(i)) {
		case name:
			return v.Field(i), true
		case "":
			if found, ok := member(v.Field(i), name); ok {
				return found, true
			}
		}
	}
	return reflect.Value{}, false
}

// members lists the names of a struct's fields in JSON.
func members(t reflect.Type) []string {
	var out []string
	for i := range t.NumField() {
		if name := jsonName(t.Field(i)); name != "" {
			out = append(out, name)
			continue
		}
		out = append(out, members(t.Field(i).Type)...)
	}
	return out
}

// nearest returns the candidate that a misspelt name most likely stands for, or nothing.
func nearest(name string, candidates []string) string {
	best, bestAt := "", max(1, len(name)/3)+1
	for _, c := range candidates {
		at := distance(strings.ToLower(name), strings.ToLower(c))
		if at < bestAt {
			best, bestAt = c, at
		}
	}
	return best
}

// distance is the number of letters to insert, remove, replace or swap to make b of a.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 { // no field is that long
		return 64
	}
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
