package volume

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"

	corev1 "k8s.io/api/core/v1"
)

// HostPath makes sure of a path of the machine.
func (s *Store) HostPath(name string, kind corev1.HostPathType) error {
	switch kind {
	case corev1.HostPathUnset:
		return nil
	case corev1.HostPathDirectoryOrCreate:
		if err := os.MkdirAll(name, 0o755); err != nil {
			return err
		}
		kind = corev1.HostPathDirectory
	case corev1.HostPathFileOrCreate:
		f, err := os.OpenFile(name, os.O_CREATE|os.O_RDONLY|syscall.O_NONBLOCK, 0o644) // a pipe in its place is not waited for
		if err != nil {
			return err
		}
		f.Close()
		kind = corev1.HostPathFile
	}
	info, err := os.Stat(name)
	if err != nil {
		return fmt.Errorf("hostPath of type %s: %w", kind, err)
	}
	if is := typeOf(info.Mode()); is != kind {
		return fmt.Errorf("hostPath %s is a %s, not a %s", name, is, kind)
	}
	return nil
}

func typeOf(m fs.FileMode) corev1.HostPathType {
	switch {
	case m.IsDir():
		return corev1.HostPathDirectory
	case m.IsRegular():
		return corev1.HostPathFile
	case m&fs.ModeSocket != 0:
		return corev1.HostPathSocket
	case m&fs.ModeCharDevice != 0:
		return corev1.HostPathCharDev
	case m&fs.ModeDevice != 0:
		return corev1.HostPathBlockDev
	default:
		return "something else"
	}
}
