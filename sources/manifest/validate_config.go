package manifest

import (
	"encoding/json"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

const tooLarge = "must not be larger than 1 MiB in all"

func (c *checker) configMap(o *corev1.ConfigMap) {
	total := 0
	data, binary := field.NewPath("data"), field.NewPath("binaryData")
	for _, key := range slices.Sorted(maps.Keys(o.Data)) {
		c.all(data.Key(key), key, validation.IsConfigMapKey(key))
		total += len(o.Data[key])
	}
	for _, key := range slices.Sorted(maps.Keys(o.BinaryData)) {
		c.all(binary.Key(key), key, validation.IsConfigMapKey(key))
		if _, ok := o.Data[key]; ok {
			c.bad(binary.Key(key), "stands in data too: remove one")
		}
		total += len(o.BinaryData[key])
	}
	if total > corev1.MaxSecretSize {
		c.bad(data, tooLarge)
	}
}

// secret checks a Secret with its plain data merged in; written says where a key was written.
func (c *checker) secret(o, written *corev1.Secret) {
	total := 0
	for _, key := range slices.Sorted(maps.Keys(o.Data)) {
		at := field.NewPath("data")
		if _, ok := written.StringData[key]; ok {
			at = field.NewPath("stringData")
		}
		if len(validation.IsConfigMapKey(key)) > 0 { // not quoted: it may have swallowed its value
			c.problems = append(c.problems, problem{path: at.String(), where: at.Key(key).String(), kind: Error,
				text: "a key is not allowed: it must consist of letters, digits, '-', '_' and '.', and a blank must stand behind the colon"})
		}
		total += len(o.Data[key])
	}
	if total > corev1.MaxSecretSize {
		c.bad(field.NewPath("data"), tooLarge)
	}
	c.secretType(o)
}

// secretType checks the keys that a Secret of a certain type must have.
func (c *checker) secretType(o *corev1.Secret) {
	data := field.NewPath("data")
	need := func(keys ...string) {
		for _, key := range keys {
			if _, ok := o.Data[key]; !ok {
				c.bad(data.Key(key), "is required for the type %s", o.Type)
			}
		}
	}
	registry := func(key string) {
		if need(key); o.Data[key] != nil && !json.Valid(o.Data[key]) {
			c.bad(data.Key(key), "must be JSON, as docker login writes it")
		}
	}
	switch o.Type {
	case corev1.SecretTypeDockercfg:
		registry(corev1.DockerConfigKey)
	case corev1.SecretTypeDockerConfigJson:
		registry(corev1.DockerConfigJsonKey)
	case corev1.SecretTypeSSHAuth:
		need(corev1.SSHAuthPrivateKey)
	case corev1.SecretTypeTLS:
		need(corev1.TLSCertKey, corev1.TLSPrivateKeyKey)
	case corev1.SecretTypeBasicAuth:
		_, user := o.Data[corev1.BasicAuthUsernameKey]
		_, password := o.Data[corev1.BasicAuthPasswordKey]
		if !user && !password {
			c.bad(data.Key(corev1.BasicAuthUsernameKey), "or data[%s] is required for the type %s", corev1.BasicAuthPasswordKey, o.Type)
		}
	case corev1.SecretTypeServiceAccountToken:
		if o.Annotations[corev1.ServiceAccountNameKey] == "" {
			c.bad(field.NewPath("metadata", "annotations").Key(corev1.ServiceAccountNameKey), "is required for the type %s", o.Type)
		}
		c.warn(field.NewPath("type"), noTokens)
	}
}
