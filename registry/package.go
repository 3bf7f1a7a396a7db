package registry

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	"oaas.io/control-plane/fsm"
	"oaas.io/control-plane/model"
	"oaas.io/control-plane/proto/pmpb"
)

// PackageOutcome is the effect of CreatePackage and UpdatePackage.
type PackageOutcome struct {
	Name string
	// Created is false when an existing package was replaced.
	Created bool
}

// CreatePackage stores a package under a name that is not taken. Deployments
// that the document carries are not stored with it: they are posted on their own.
func (r *Registry) CreatePackage(ctx context.Context, ri RequestInfo, pkg *model.OPackage) (*PackageOutcome, uint64, error) {
	ri.Precondition.MustNotExist = false // the name being taken has its own, clearer error below
	return r.putPackage(ctx, ri, pkg, func(have *fsm.Package) error {
		if have != nil {
			return errorf(AlreadyExists, "Package already exists: %s", pkg.Name)
		}
		return nil
	})
}

// UpdatePackage replaces a stored package as a whole.
func (r *Registry) UpdatePackage(ctx context.Context, ri RequestInfo, pkg *model.OPackage) (*PackageOutcome, uint64, error) {
	return r.putPackage(ctx, ri, pkg, func(have *fsm.Package) error {
		if have == nil {
			return errorf(NotFound, "Package not found: %s", pkg.Name)
		}
		return ri.Precondition.check("Package "+pkg.Name, have.ModifyIndex)
	})
}

func (r *Registry) putPackage(ctx context.Context, ri RequestInfo, pkg *model.OPackage, allow func(have *fsm.Package) error) (*PackageOutcome, uint64, error) {
	if err := pkg.Validate(); err != nil {
		return nil, 0, invalid("package", err)
	}
	stored := pkg.Clone()
	stored.Deployments = nil
	doc, err := json.Marshal(stored)
	if err != nil {
		return nil, 0, fromStore(err)
	}
	out, index, err := r.commit(ctx, ri, func(snap *fsm.Snapshot) (*decision, error) {
		have := snap.Package(pkg.Name)
		if err := allow(have); err != nil {
			return nil, err
		}
		if err := checkPodsLevel(snap, podsOfClasses(pkg)...); err != nil {
			return nil, err
		}
		guards := []*pmpb.Guard{guard(pmpb.Guard_TABLE_PACKAGE, pkg.Name, packageIndex(have))}
		for _, dep := range pkg.Dependencies {
			on := snap.Package(dep)
			if on == nil || dep == pkg.Name {
				return nil, errorf(FailedPrecondition, "Dependency not found: %s (create package %q first or remove it from dependencies)", dep, dep)
			}
			guards = append(guards, guard(pmpb.Guard_TABLE_PACKAGE, dep, on.ModifyIndex))
		}
		action := "package.create"
		if have != nil {
			action = "package.update"
		}
		return &decision{
			note:    fsm.NewNote(action, pkg.Name, ""),
			cmd:     &pmpb.Command{Guards: guards, Op: &pmpb.Command_PutPackage{PutPackage: &pmpb.PutPackage{Document: doc}}},
			outcome: &PackageOutcome{Name: pkg.Name, Created: have == nil},
		}, nil
	})
	if err != nil {
		return nil, 0, err
	}
	return out.(*PackageOutcome), index, nil
}

// DeletePackage removes a package. Other packages must not depend on it. Its
// deployments are deleted first when the registry was configured to cascade;
// otherwise they go on running, since their documents stand alone.
func (r *Registry) DeletePackage(ctx context.Context, ri RequestInfo, name string) (uint64, error) {
	if r.cascade {
		if err := r.deleteDeploymentsOf(ctx, ri, name); err != nil {
			return 0, err
		}
	}
	_, index, err := r.commit(ctx, ri, func(snap *fsm.Snapshot) (*decision, error) {
		have := snap.Package(name)
		if have == nil {
			return nil, errorf(NotFound, "Package not found: %s", name)
		}
		if err := ri.Precondition.check("Package "+name, have.ModifyIndex); err != nil {
			return nil, err
		}
		for _, other := range snap.Packages() {
			if slices.Contains(other.Doc.Dependencies, name) {
				return nil, errorf(FailedPrecondition, "Package %s is a dependency of package %s; delete or change that one first", name, other.Doc.Name)
			}
		}
		return &decision{note: fsm.NewNote("package.delete", name, ""), cmd: &pmpb.Command{
			Guards: []*pmpb.Guard{guard(pmpb.Guard_TABLE_PACKAGE, name, have.ModifyIndex)},
			Op:     &pmpb.Command_DeletePackage{DeletePackage: &pmpb.DeletePackage{Name: name}},
		}}, nil
	})
	return index, err
}

// deleteDeploymentsOf deletes the deployments of a package one by one. A second
// call after a failure goes on where the first one stopped.
func (r *Registry) deleteDeploymentsOf(ctx context.Context, ri RequestInfo, name string) error {
	snap, err := r.Read(ctx, Consistency{})
	if err != nil {
		return err
	}
	if err := r.replay(snap, ri.Idempotency); err != nil {
		return err
	}
	if snap.Package(name) == nil {
		return errorf(NotFound, "Package not found: %s", name)
	}
	// The client's key and condition belong to the package, not to each deployment.
	each := RequestInfo{RequestID: ri.RequestID, Principal: ri.Principal, Address: ri.Address, Agent: ri.Agent}
	for _, dep := range snap.DeploymentsByPackage(name) {
		_, _, err := r.DeleteDeployment(ctx, each, dep.Doc.Key)
		var gone *Error
		if errors.As(err, &gone) && gone.Code == NotFound {
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func packageIndex(p *fsm.Package) uint64 {
	if p == nil {
		return 0
	}
	return p.ModifyIndex
}
