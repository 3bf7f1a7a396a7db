package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
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

	"go.uber.org/zap"
)

// environment is what Knative's libraries read from the environment.
var environment = map[string]string{
	"SYSTEM_NAMESPACE":          "knative-serving",
	"CONFIG_LOGGING_NAME":       "config-logging",
	"CONFIG_OBSERVABILITY_NAME": "config-observability",
	"METRICS_DOMAIN":            "knative.dev/serving",
}

func main() {
	kubeconfig := flag.String("kubeconfig", "", "kubeconfig of the cluster")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	err := run(ctx, *kubeconfig)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, kubeconfig string) error {
	for name, value := range environment {
		if err := os.Setenv(name, value); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return fmt.Errorf("read the kubeconfig: %w", err)
	}
	config.QPS, config.Burst = 200, 400
	group, ctx := errgroup.WithContext(ctx)
	playActivator(ctx, group)
	group.Go(func() error { return reconcile(ctx, config) })
	return group.Wait()
}

// reconcile wires the controllers as Knative's own main does, without its servers and
// without an election.
func reconcile(ctx context.Context, config *rest.Config) error {
	ctx = filtered.WithSelectors(ctx, serving.RevisionUID)
	logger, err := zap.NewProduction()
	if err != nil {
		return fmt.Errorf("make a logger: %w", err)
	}
	ctx = logging.WithLogger(ctx, logger.Sugar())
	ctx, informers := injection.Default.SetupInformers(ctx, config)
	watcher := cminformer.NewInformedWatcher(kubeclient.Get(ctx), system.Namespace())
	constructors := []injection.ControllerConstructor{
		configuration.NewController, labeler.NewController, revision.NewController, route.NewController,
		serverlessservice.NewController, service.NewController, gc.NewController, newAutoscaler,
	}
	controllers := make([]*controller.Impl, len(constructors))
	for i, constructor := range constructors {
		controllers[i] = constructor(ctx, watcher)
	}
	if err := playIngress(ctx); err != nil {
		return err
	}
	if err := watcher.Start(ctx.Done()); err != nil {
		return fmt.Errorf("watch Knative's configuration: %w", err)
	}
	if err := controller.StartInformers(ctx.Done(), informers...); err != nil {
		return fmt.Errorf("start the informers: %w", err)
	}
	fmt.Println("knative: started")
	return controller.StartAll(ctx, controllers...)
}
