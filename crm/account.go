package crm

import (
	"context"
	"fmt"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// ownAccount is the name of the service account by which the API server knows this
// manager, if it is one of the namespace that is managed; else it is empty. Classes must
// not name it: their code would have the rights of the manager.
func (m *manager) ownAccount(ctx context.Context) (string, error) {
	clients, err := kubernetes.NewForConfig(m.opts.RESTConfig)
	if err != nil {
		return "", fmt.Errorf("kubernetes client: %w", err)
	}
	answer, err := clients.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	switch {
	case apierrors.IsForbidden(err), apierrors.IsNotFound(err):
		m.log.Warn("cannot tell the manager's own service account, which classes must not use: keep it from them with --pod-locked=service_account")
		return "", nil
	case err != nil:
		return "", fmt.Errorf("ask for the manager's own account: %w", err)
	}
	name, ours := strings.CutPrefix(answer.Status.UserInfo.Username, "system:serviceaccount:"+m.opts.Namespace+":")
	if !ours {
		return "", nil
	}
	return name, nil
}
