package registry

import (
	"fmt"
	"slices"
	"strings"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/model"
)

// findClass gives the class that a deployment names, or an error that says which
// names there are.
func findClass(pkg *model.OPackage, key string) (*model.OClass, error) {
	var names []string
	for i := range pkg.Classes {
		if pkg.Classes[i].Key == key {
			return &pkg.Classes[i], nil
		}
		names = append(names, pkg.Classes[i].Key)
	}
	return nil, errorf(InvalidArgument, "Class not found: %s (package %s has %s)", key, pkg.Name, listOrNone(names, "no classes"))
}

// enrich gives the deployment as it is to run: the parts that the caller left
// empty are filled in from the package. The result shares nothing with dep.
func enrich(dep *model.OClassDeployment, pkg *model.OPackage, cls *model.OClass) (*model.OClassDeployment, error) {
	out := dep.Clone()
	out.Condition, out.Status = model.ConditionPending, nil
	out.CreatedAt, out.UpdatedAt = nil, nil
	var err error
	if len(out.Functions) == 0 {
		out.Functions, err = functionsOf(pkg, cls)
	} else {
		err = checkFunctions(out.Functions, pkg)
	}
	if err != nil {
		return nil, err
	}
	if err := checkImages(out.Functions, pkg); err != nil {
		return nil, err
	}
	if out.Pods == nil && cls.Pods != nil {
		out.Pods = cls.Pods.Clone()
	}
	if out.ODGM == nil {
		out.ODGM = &model.ODGMDataSpec{}
	}
	if len(out.ODGM.Collections) == 0 {
		out.ODGM.Collections = []string{dep.PackageName + "." + dep.ClassKey}
	}
	if out.ODGM.Log == nil {
		level := "info"
		out.ODGM.Log = &level
	}
	return out, nil
}

// functionsOf lists the functions bound to a class in binding order, each once:
// two bindings of one function share its workload.
func functionsOf(pkg *model.OPackage, cls *model.OClass) ([]model.FunctionDeploymentSpec, error) {
	var out []model.FunctionDeploymentSpec
	seen := map[string]bool{}
	for _, b := range cls.FunctionBindings {
		if seen[b.FunctionKey] {
			continue
		}
		seen[b.FunctionKey] = true
		fn := findFunction(pkg, b.FunctionKey)
		if fn == nil {
			return nil, errorf(InvalidArgument, "Function not found: %s (bound as %s by class %s; package %s has %s)",
				b.FunctionKey, b.Name, cls.Key, pkg.Name, listOrNone(functionKeys(pkg), "no functions"))
		}
		copied := model.OFunction{Description: fn.Description, ProvisionConfig: fn.ProvisionConfig, Config: fn.Config}.Clone()
		out = append(out, model.FunctionDeploymentSpec{
			FunctionKey:     fn.Key,
			Description:     copied.Description,
			ProvisionConfig: copied.ProvisionConfig,
			Config:          copied.Config,
		})
	}
	return out, nil
}

func checkFunctions(specs []model.FunctionDeploymentSpec, pkg *model.OPackage) error {
	for i := range specs {
		key := specs[i].FunctionKey
		if findFunction(pkg, key) == nil {
			return errorf(InvalidArgument, "Function not found: %s (functions[%d]; package %s has %s)", key, i, pkg.Name, listOrNone(functionKeys(pkg), "no functions"))
		}
	}
	return nil
}

// checkImages refuses functions that have nothing to run. Macro, logical and
// built-in functions are run by the platform and need no image.
func checkImages(specs []model.FunctionDeploymentSpec, pkg *model.OPackage) error {
	for i := range specs {
		fn := findFunction(pkg, specs[i].FunctionKey)
		if fn == nil || (fn.FunctionType != model.FunctionCustom && fn.FunctionType != model.FunctionWASM) {
			continue
		}
		if !runnable(&specs[i]) {
			return errorf(InvalidArgument, "Function %s has nothing to run: set provision_config.container_image or provision_config.wasm_module_url", specs[i].FunctionKey)
		}
	}
	return nil
}

func blank(s *string) bool { return s == nil || strings.TrimSpace(*s) == "" }

func findFunction(pkg *model.OPackage, key string) *model.OFunction {
	i := slices.IndexFunc(pkg.Functions, func(f model.OFunction) bool { return f.Key == key })
	if i < 0 {
		return nil
	}
	return &pkg.Functions[i]
}

func functionKeys(pkg *model.OPackage) []string {
	var keys []string
	for i := range pkg.Functions {
		keys = append(keys, pkg.Functions[i].Key)
	}
	return keys
}

// checkEnvs holds the environments that a deployment names against those that
// are registered.
func checkEnvs(snap *fsm.Snapshot, dep *model.OClassDeployment) error {
	var known []string
	for _, c := range snap.Clusters() {
		known = append(known, c.GetName())
	}
	var unknown []string
	for _, env := range dep.TargetEnvs {
		if snap.Cluster(env) == nil {
			unknown = append(unknown, env)
		}
	}
	if len(unknown) > 0 {
		return errorf(InvalidArgument, "Invalid target envs: %s (known: %s)", strings.Join(unknown, ", "), listOrNone(known, "none yet"))
	}
	for env := range dep.EnvTemplates {
		if snap.Cluster(env) == nil {
			return errorf(InvalidArgument, "Invalid env_templates: %s is not an environment (known: %s)", env, listOrNone(known, "none yet"))
		}
	}
	return nil
}

// listOrNone joins at most ten names, so that an error stays readable.
func listOrNone(names []string, none string) string {
	const most = 10
	switch {
	case len(names) == 0:
		return none
	case len(names) > most:
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	default:
		return strings.Join(names, ", ")
	}
}
