package etcd

import (
	"context"
	"log/slog"
	"sync/atomic"

	"go.uber.org/zap/zapcore"
)

// logCore hands what etcd's server logs to a logger of ours. A quiet fleet logs nothing: only warnings and what is worse are heard.
type logCore struct {
	log    *slog.Logger
	ends   *atomic.Bool // the server is being stopped: what it says of its closing is no news
	fields []zapcore.Field
}

// Enabled is for warnings.
func (c *logCore) Enabled(level zapcore.Level) bool {
	return level >= zapcore.WarnLevel && !c.ends.Load()
}

// With adds fields to all entries.
func (c *logCore) With(fields []zapcore.Field) zapcore.Core {
	return &logCore{log: c.log, ends: c.ends, fields: append(c.fields[:len(c.fields):len(c.fields)], fields...)}
}

// Check says that it writes what it is enabled for.
func (c *logCore) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(entry.Level) {
		return checked.AddCore(entry, c)
	}
	return checked
}

// Write says it.
func (c *logCore) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	said := zapcore.NewMapObjectEncoder()
	for _, f := range append(c.fields[:len(c.fields):len(c.fields)], fields...) {
		f.AddTo(said)
	}
	level := slog.LevelWarn
	if entry.Level > zapcore.WarnLevel {
		level = slog.LevelError
	}
	attrs := []slog.Attr{slog.String("said", entry.Message)}
	for key, value := range said.Fields {
		attrs = append(attrs, slog.Any(key, value))
	}
	c.log.LogAttrs(context.Background(), level, "etcd", attrs...)
	return nil
}

// Sync has nothing to do.
func (*logCore) Sync() error { return nil }
