package manifest

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// floatForm is what YAML 1.1 calls a float, the special ones aside.
var floatForm = regexp.MustCompile(`^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$`)

// scalar reads a plain (unquoted) scalar as Kubernetes does. That is YAML 1.1, in which yes, no, on and
// off are booleans and 0644 is octal: YAML 1.2 would take manifests that kubectl refuses, and the other
// way round. Dates are strings.
func scalar(s string) (node, error) {
	switch s {
	case "", "~", "null", "Null", "NULL":
		return node{form: formNull}, nil
	case "y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON":
		return node{form: formBool, text: "true"}, nil
	case "n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF":
		return node{form: formBool, text: "false"}, nil
	case ".nan", ".NaN", ".NAN", ".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF", "-.inf", "-.Inf", "-.INF":
		return node{form: formString, text: s}, errors.New("is not a number that Kubernetes knows")
	}
	if strings.IndexByte("0123456789+-.", s[0]) < 0 || isDate(s) {
		return node{form: formString, text: s}, nil
	}
	plain := strings.ReplaceAll(s, "_", "")
	if s[0] == '.' {
		plain = s
	} else if text, ok := integer(plain); ok {
		return node{form: formInt, text: text}, nil
	}
	if floatForm.MatchString(plain) {
		if f, err := strconv.ParseFloat(plain, 64); err == nil {
			return number(f), nil
		}
	}
	return node{form: formString, text: s}, nil
}

// integer reads a whole number in any of YAML 1.1's bases and returns it as JSON writes it.
func integer(s string) (string, bool) {
	if i, err := strconv.ParseInt(s, 0, 64); err == nil {
		return strconv.FormatInt(i, 10), true
	}
	if u, err := strconv.ParseUint(s, 0, 64); err == nil {
		return strconv.FormatUint(u, 10), true
	}
	return "", false
}

// number is a float as JSON writes it: a whole one has no decimal point and serves as an integer.
func number(f float64) node {
	text, err := json.Marshal(f)
	if err != nil { // cannot happen: neither infinite nor not a number
		return node{form: formString}
	}
	if f == math.Trunc(f) && strings.Trim(string(text), "-0123456789") == "" {
		return node{form: formInt, text: string(text)}
	}
	return node{form: formFloat, text: string(text)}
}

// isDate reports whether YAML 1.1 takes s for a timestamp.
func isDate(s string) bool {
	if len(s) < 6 || s[4] != '-' || strings.Trim(s[:4], "0123456789") != "" {
		return false
	}
	for _, layout := range []string{"2006-1-2T15:4:5.999999999Z07:00", "2006-1-2t15:4:5.999999999Z07:00", "2006-1-2 15:4:5.999999999", "2006-1-2"} {
		if _, err := time.Parse(layout, s); err == nil {
			return true
		}
	}
	return false
}

// tagged reads a scalar whose type was written out, as in !!str 5.
func tagged(tag, s string) (node, error) {
	switch tag {
	case "!!binary":
		raw, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			return node{form: formString}, errors.New("is tagged !!binary but is not base64")
		}
		return node{form: formString, text: string(raw)}, nil
	case "!!int", "!!float", "!!bool", "!!null":
		n, err := scalar(s)
		want := map[string]form{"!!int": formInt, "!!float": formFloat, "!!bool": formBool, "!!null": formNull}[tag]
		if err == nil && n.form != want && (want != formFloat || n.form != formInt) {
			err = errors.New("is not what its tag " + tag + " says")
		}
		return n, err
	default:
		return node{form: formString, text: s}, nil
	}
}
