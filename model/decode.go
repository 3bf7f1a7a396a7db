package model

// DecodePackage reads a package from JSON. The error is a *DecodeError.
func DecodePackage(data []byte) (*OPackage, error) { return decode(packageTable, string(data)) }

// DecodeDeployment reads a deployment from JSON. The error is a *DecodeError.
func DecodeDeployment(data []byte) (*OClassDeployment, error) {
	return decode(deploymentTable, string(data))
}

// ReadPackage is DecodePackage for what people write: fields that a placement, pod
// settings, a rollout or a failover do not have are refused.
func ReadPackage(data []byte) (*OPackage, error) { return read(packageTable, string(data)) }

// ReadDeployment is DecodeDeployment for what people write, as ReadPackage.
func ReadDeployment(data []byte) (*OClassDeployment, error) {
	return read(deploymentTable, string(data))
}

func read[T any](table objectCodec[T], in string) (*T, error) {
	src := source{json: in}
	root, err := parseJSON(in)
	if err != nil {
		return nil, src.locate(err)
	}
	root.closeExtensions()
	out := new(T)
	if err := table.decode(&root, out); err != nil {
		return nil, src.locate(err)
	}
	return out, nil
}

func decode[T any](table objectCodec[T], in string) (*T, error) {
	out := new(T)
	if err := decodeInto(table, in, out); err != nil {
		return nil, err
	}
	return out, nil
}

// decodeInto leaves *out alone when it fails.
func decodeInto[T any](table objectCodec[T], in string, out *T) error {
	src := source{json: in}
	root, err := parseJSON(in)
	if err != nil {
		return src.locate(err)
	}
	var value T
	if err := table.decode(&root, &value); err != nil {
		return src.locate(err)
	}
	*out = value
	return nil
}

func encode[T any](table objectCodec[T], v *T) ([]byte, error) {
	return table.append(make([]byte, 0, 512), v)
}

func cloneOf[T any](table objectCodec[T], v *T) *T {
	out := new(T)
	table.clone(out, v)
	return out
}
