package volume

import (
	"os"
	"path/filepath"
)

// Message makes an empty file that anyone may write to. What an earlier container of that key said is gone then.
func (s *Store) Message(uid, key string) (string, error) {
	if err := checkKey(key); err != nil {
		return "", err
	}
	if err := s.podDir(uid, false); err != nil {
		return "", err
	}
	name := filepath.Join(s.Disk, uid, messagesDir, key)
	if err := os.MkdirAll(filepath.Dir(name), 0o711); err != nil {
		return "", err
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o666)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return name, f.Chmod(0o666) // not subject to the umask, nor to what a container made of it
}
