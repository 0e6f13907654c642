package proxy

import (
	"container/list"
	"iter"
)

// recent is a map that knows in which order its keys were used. The zero value is empty.
type recent[K comparable, V any] struct {
	at    map[K]*list.Element
	order list.List // of *used[K, V], the latest first
}

type used[K comparable, V any] struct {
	key   K
	value V
}

// get is what a key has. It does not count as a use.
func (r *recent[K, V]) get(key K) (v V, ok bool) {
	e, ok := r.at[key]
	if !ok {
		return v, false
	}
	return e.Value.(*used[K, V]).value, true
}

// use gives a key a value, and makes it the latest.
func (r *recent[K, V]) use(key K, v V) {
	if e, ok := r.at[key]; ok {
		e.Value.(*used[K, V]).value = v
		r.order.MoveToFront(e)
		return
	}
	if r.at == nil {
		r.at = map[K]*list.Element{}
	}
	r.at[key] = r.order.PushFront(&used[K, V]{key, v})
}

// oldest is the key whose last use is the longest ago.
func (r *recent[K, V]) oldest() (key K, v V, ok bool) {
	e := r.order.Back()
	if e == nil {
		return key, v, false
	}
	u := e.Value.(*used[K, V])
	return u.key, u.value, true
}

func (r *recent[K, V]) remove(key K) {
	if e, ok := r.at[key]; ok {
		r.order.Remove(e)
		delete(r.at, key)
	}
}

// values are all values, in no order. What is removed on the way does no harm.
func (r *recent[K, V]) values() iter.Seq[V] {
	return func(yield func(V) bool) {
		for _, e := range r.at {
			if !yield(e.Value.(*used[K, V]).value) {
				return
			}
		}
	}
}

func (r *recent[K, V]) len() int { return len(r.at) }
