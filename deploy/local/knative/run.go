package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/rest"
	kubeclient "knative.dev/pkg/client/injection/kube/client"
	filtered "knative.dev/pkg/client/injection/kube/informers/factory/filtered"
	cminformer "knative.dev/pkg/configmap/informer"
	"knative.dev/pkg/controller"
	"knative.dev/pkg/injection"
	"knative.dev/pkg/logging"
	"knative.dev/pkg/system"
	"knative.dev/serving/pkg/apis/serving"
	"knative.dev/serving/pkg/reconciler/configuration"
	"knative.dev/serving/pkg/reconciler/gc"
	"knative.dev/serving/pkg/reconciler/labeler"
	"knative.dev/serving/pkg/reconciler/revision"
	"knative.dev/serving/pkg/reconciler/route"
	"knative.dev/serving/pkg/reconciler/serverlessservice"
	"knative.dev/serving/pkg/reconciler/service"
)

// constructors make the reconcilers: those of Knative's controller that need no further programs, the pod autoscaler of its
// autoscaler, and the ingress controller of this program.
var constructors = []injection.ControllerConstructor{
	configuration.NewController,
	gc.NewController,
	labeler.NewController,
	revision.NewController,
	route.NewController,
	serverlessservice.NewController,
	service.NewController,
	newPodAutoscaler,
	newIngress,
}

// run runs the reconcilers until the context ends. Knative's own main function is not used because it listens on all addresses
// for profiles and probes, at fixed ports.
func run(ctx context.Context, config *rest.Config, ready string, verbose bool) error {
	answerInMemory()
	logger, err := newLogger(verbose)
	if err != nil {
		return err
	}
	defer logger.Sync() //nolint:errcheck // standard error cannot be synced on all systems
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ctx = logging.WithLogger(ctx, logger)
	ctx = filtered.WithSelectors(ctx, serving.RevisionUID)
	ctx = injection.WithConfig(ctx, config)
	ctx, informers := injection.Default.SetupInformers(ctx, config)

	configs := cminformer.NewInformedWatcher(kubeclient.Get(ctx), system.Namespace())
	controllers := make([]*controller.Impl, len(constructors))
	for i, construct := range constructors {
		controllers[i] = construct(ctx, configs)
	}
	if err := configs.Start(ctx.Done()); err != nil {
		return fmt.Errorf("watch the config maps: %w", err)
	}
	wait, err := controller.RunInformers(ctx.Done(), informers...)
	// The informers end with the context, which this function cancels.
	defer func() { cancel(); wait() }()
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("read the cluster: %w", err)
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error { return controller.StartAll(groupCtx, controllers...) })
	if ready != "" {
		if err := os.WriteFile(ready, nil, 0o600); err != nil {
			cancel()
			return errors.Join(fmt.Errorf("say that the reconcilers run: %w", err), group.Wait())
		}
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("reconcile: %w", err)
	}
	return nil
}

// newLogger writes to standard error.
func newLogger(verbose bool) (*zap.SugaredLogger, error) {
	config := zap.NewProductionConfig()
	config.Level = zap.NewAtomicLevelAt(zap.WarnLevel)
	if verbose {
		config.Level = zap.NewAtomicLevelAt(zap.InfoLevel)
	}
	config.Encoding = "console"
	config.EncoderConfig.EncodeTime = zapcore.RFC3339TimeEncoder
	config.DisableStacktrace = true
	logger, err := config.Build()
	if err != nil {
		return nil, fmt.Errorf("make a logger: %w", err)
	}
	return logger.Sugar(), nil
}
