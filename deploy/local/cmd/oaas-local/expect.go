package main

import (
	"fmt"
	"strings"

	"oaas.io/control-plane/model"
)

// expectation is what one deployment must become in every cluster that it targets. It is worked out from the submitted
// documents by the rules that users are told, not by the code under test.
type expectation struct {
	key      string
	class    string
	envs     []string
	workload []workload
}

// workload is a Kubernetes Deployment with the Services in front of it.
type workload struct {
	// suffix is added to the name of the ClassRuntime.
	suffix string
	// serviceSuffix is that of the Service.
	serviceSuffix string
	// container, image and ports of the only container; an empty image is not compared.
	container string
	image     string
	ports     []int32
	// env are variables that must be there.
	env      map[string]string
	replicas int32
	requests map[string]string
	// service maps the Service's ports to those of the container.
	service map[int32]int32
}

// defaultPort is the container's port when a function names none.
const defaultPort = 80

// expect works out the expectation for one deployment of a package.
func expect(pkg *model.OPackage, deployment *model.OClassDeployment) (*expectation, error) {
	var class *model.OClass
	for i := range pkg.Classes {
		if pkg.Classes[i].Key == deployment.ClassKey {
			class = &pkg.Classes[i]
		}
	}
	if class == nil {
		return nil, fmt.Errorf("package %s has no class %s", pkg.Name, deployment.ClassKey)
	}
	e := &expectation{key: deployment.Key, class: pkg.Name + "." + class.Key, envs: deployment.TargetEnvs}
	seen := map[string]bool{}
	var functions []*model.OFunction
	for _, binding := range class.FunctionBindings {
		// Two methods may be bound to the same function, which runs once.
		if seen[binding.FunctionKey] {
			continue
		}
		seen[binding.FunctionKey] = true
		for i := range pkg.Functions {
			if pkg.Functions[i].Key == binding.FunctionKey {
				functions = append(functions, &pkg.Functions[i])
			}
		}
	}
	for i, function := range functions {
		suffix := ""
		if len(functions) > 1 {
			suffix = fmt.Sprintf("-fn-%d", i)
		}
		e.workload = append(e.workload, functionWorkload(suffix, function))
	}
	e.workload = append(e.workload, workload{
		suffix: "-odgm", serviceSuffix: "-odgm-svc", container: "odgm", ports: []int32{8080, 17447}, replicas: 1,
		env: map[string]string{"OPRC_CLS_ID": e.class}, service: map[int32]int32{80: 8080, 17447: 17447},
	})
	return e, nil
}

func functionWorkload(suffix string, function *model.OFunction) workload {
	w := workload{
		suffix: suffix, serviceSuffix: suffix, container: "function", replicas: 1,
		env: function.Config, requests: map[string]string{},
	}
	port := int32(defaultPort)
	if config := function.ProvisionConfig; config != nil {
		w.image = text(config.ContainerImage)
		if config.Port != nil {
			port = int32(*config.Port)
		}
		if config.MinScale != nil {
			w.replicas = int32(*config.MinScale)
		}
		if cpu := text(config.CPURequest); cpu != "" {
			w.requests["cpu"] = cpu
		}
		if memory := text(config.MemoryRequest); memory != "" {
			w.requests["memory"] = memory
		}
	}
	w.ports, w.service = []int32{port}, map[int32]int32{80: port}
	return w
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return strings.TrimSpace(*s)
}
