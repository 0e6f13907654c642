package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

func renderCommand(o *options) *cobra.Command {
	var showSecrets bool
	cmd := &cobra.Command{
		Use: "render [SOURCE...]", Short: "Print the objects after kustomize and defaulting",
		RunE: func(cmd *cobra.Command, args []string) error { return o.render(cmd.Context(), args, showSecrets) },
	}
	cmd.Flags().BoolVar(&showSecrets, "show-secrets", false, "do not mask the values of Secrets")
	return cmd
}

// masked stands for the value of a Secret.
const masked = "(masked)"

func (o *options) render(ctx context.Context, args []string, showSecrets bool) error {
	all, err := o.sourcesOrConfigured(ctx, args)
	if err != nil {
		return err
	}
	errs := 0
	for _, l := range all {
		errs += o.faults(l)
		for _, object := range l.result.Objects {
			raw, err := document(object.Value, showSecrets)
			if err != nil {
				return fmt.Errorf("print %s: %w", object.ID, err)
			}
			fmt.Fprintf(o.out, "---\n%s", raw)
		}
	}
	if errs > 0 {
		return exitChanges
	}
	return nil
}

func document(v runtime.Object, showSecrets bool) ([]byte, error) {
	tree, err := runtime.DefaultUnstructuredConverter.ToUnstructured(v)
	if err != nil {
		return nil, err
	}
	delete(tree, "status")
	if s, ok := v.(*corev1.Secret); ok && !showSecrets {
		data := map[string]any{}
		for key := range s.Data {
			data[key] = masked
		}
		delete(tree, "stringData")
		tree["data"] = data
	}
	dropNulls(tree)
	return yaml.Marshal(tree)
}

// dropNulls leaves out what Go writes and nobody wrote.
func dropNulls(v any) {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			if value == nil {
				delete(v, key)
				continue
			}
			dropNulls(value)
		}
	case []any:
		for i := range v {
			dropNulls(v[i])
		}
	}
}
