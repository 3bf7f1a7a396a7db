package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"oaas.io/control-plane/deploy/local/system"
	"oaas.io/control-plane/model"
)

// begin brings everything up and submits the package.
func (t *smokeTest) begin(ctx context.Context, options *stackOptions) error {
	err := t.limited(ctx, "two Kubernetes clusters are ready", func(ctx context.Context) error {
		return t.startClusters(ctx, nil)
	})
	if err != nil {
		return err
	}
	err = t.limited(ctx, "three pmd have a leader, one crm was found by gossip, and one connected by itself", func(ctx context.Context) error {
		return t.startSystem(ctx, options)
	})
	if err != nil {
		return err
	}
	for _, c := range t.clusters {
		j, err := newJudge(c, t.system.Namespace)
		if err != nil {
			return err
		}
		t.judges = append(t.judges, j)
	}
	return t.limited(ctx, "package "+t.pkg.Name+" is stored", func(ctx context.Context) error {
		body, err := json.Marshal(t.pkg)
		if err != nil {
			return err
		}
		_, err = t.system.PMs[0].Client().Do(ctx, http.MethodPost, "/api/v1/packages", body, nil)
		return err
	})
}

// post submits a deployment once, to one node, without retries.
func (t *smokeTest) post(ctx context.Context, pm *system.PM, deployment *model.OClassDeployment) error {
	return t.limited(ctx, fmt.Sprintf("POST %s is answered by %s", deployment.Key, pm.Name), func(ctx context.Context) error {
		body, err := json.Marshal(deployment)
		if err != nil {
			return err
		}
		if _, err := pm.Client().Do(ctx, http.MethodPost, "/api/v1/deployments", body, nil); err != nil {
			return err
		}
		return nil
	})
}

// available waits for what a user sees, then checks what Kubernetes has.
func (t *smokeTest) available(ctx context.Context, pm *system.PM, deployment *model.OClassDeployment) error {
	err := t.limited(ctx, deployment.Key+" is available in "+strings.Join(deployment.TargetEnvs, " and "), func(ctx context.Context) error {
		return pm.Client().WaitAvailable(ctx, deployment.Key)
	})
	if err != nil {
		return err
	}
	return t.limited(ctx, "every object is as expected in both clusters", t.waitJudged)
}

// deploy posts and follows one deployment.
func (t *smokeTest) deploy(ctx context.Context, pm *system.PM, deployment *model.OClassDeployment) error {
	if err := t.post(ctx, pm, deployment); err != nil {
		return err
	}
	if err := t.place(ctx, pm, deployment); err != nil {
		return err
	}
	return t.available(ctx, pm, deployment)
}

func (t *smokeTest) first() *model.OClassDeployment  { return &t.pkg.Deployments[0] }
func (t *smokeTest) second() *model.OClassDeployment { return &t.pkg.Deployments[1] }

// deployFirst goes through a follower, which must forward.
func (t *smokeTest) deployFirst(ctx context.Context) error {
	leader, err := t.system.Leader(ctx)
	if err != nil {
		return err
	}
	return t.deploy(ctx, t.system.Follower(leader), t.first())
}

// killLeader crashes the leader and deploys at once through a survivor.
func (t *smokeTest) killLeader(ctx context.Context) error {
	leader, err := t.system.Leader(ctx)
	if err != nil {
		return err
	}
	leader.Kill()
	survivor := t.system.Follower(leader)
	err = t.limited(ctx, "leader "+leader.Name+" was killed (SIGKILL); another node leads", func(ctx context.Context) error {
		next, err := t.system.Leader(ctx)
		if err == nil && next == leader {
			return errors.New("the killed node is said to lead")
		}
		return err
	})
	if err != nil {
		return err
	}
	err = t.limited(ctx, t.first().Key+", posted before, is still there and available", func(ctx context.Context) error {
		return survivor.Client().WaitAvailable(ctx, t.first().Key)
	})
	if err != nil {
		return err
	}
	return t.deploy(ctx, survivor, t.second())
}

// restartNode brings the killed node back and reads from its own state what happened without it.
func (t *smokeTest) restartNode(ctx context.Context) error {
	var back *system.PM
	for _, pm := range t.system.PMs {
		if !pm.Running() {
			back = pm
		}
	}
	if back == nil {
		return errors.New("no node is down")
	}
	return t.limited(ctx, back.Name+" is back and has caught up", func(ctx context.Context) error {
		if err := back.Start(); err != nil {
			return err
		}
		if err := back.WaitReady(ctx); err != nil {
			return err
		}
		path := "/api/v1/deployments/" + url.PathEscape(t.second().Key) + "?consistency=stale"
		return system.Poll(ctx, back.Name+" has "+t.second().Key+" in its own state", func(ctx context.Context) (bool, error) {
			_, err := back.Client().Do(ctx, http.MethodGet, path, nil, nil)
			return err == nil, err
		})
	})
}

// remove deletes a deployment and waits until nothing of it is left anywhere.
func (t *smokeTest) remove(ctx context.Context, key string) error {
	path := "/api/v1/deployments/" + url.PathEscape(key)
	err := t.limited(ctx, "DELETE "+key+" is answered, and every node says 404", func(ctx context.Context) error {
		if _, err := t.system.PMs[0].Client().Do(ctx, http.MethodDelete, path, nil, nil); err != nil {
			return err
		}
		for _, pm := range t.system.PMs {
			if _, err := pm.Client().Deployment(ctx, key); !system.IsStatus(err, http.StatusNotFound) {
				if err == nil {
					return fmt.Errorf("%s still has it", pm.Name)
				}
				return fmt.Errorf("%s: want 404, got %w", pm.Name, err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	t.forget(key)
	err = t.limited(ctx, "both clusters have confirmed the deletion of "+key, func(ctx context.Context) error {
		return system.Poll(ctx, "no deletion of "+key+" is pending", func(ctx context.Context) (bool, error) {
			deletions, err := t.system.PMs[0].Client().Deletions(ctx)
			if err != nil {
				return false, err
			}
			for _, deletion := range deletions {
				if deletion.Key == key {
					return false, fmt.Errorf("pending: %+v", deletion.PendingEnvs)
				}
			}
			return true, nil
		})
	})
	if err != nil {
		return err
	}
	return t.limited(ctx, "nothing is left of "+key+" in either cluster, and the rest is untouched", t.waitJudged)
}

func (t *smokeTest) deleteFirst(ctx context.Context) error { return t.remove(ctx, t.first().Key) }

// waits waits until the API says why a cluster has not taken its share yet.
func (t *smokeTest) waits(ctx context.Context, key, env string) error {
	reason := ""
	began := time.Now()
	err := system.Poll(ctx, key+" says why it waits for "+env, func(ctx context.Context) (bool, error) {
		units, err := t.system.PMs[0].Client().Units(ctx, key)
		if err != nil {
			return false, err
		}
		i := slices.IndexFunc(units, func(u system.Unit) bool { return u.Env == env })
		if i < 0 {
			return false, system.Fatal(fmt.Errorf("no unit for %s in %+v", env, units))
		}
		if units[i].Acknowledged {
			return false, system.Fatal(fmt.Errorf("%s is down and has confirmed", env))
		}
		if units[i].Waiting == nil {
			return false, fmt.Errorf("phase %s without a reason", units[i].Phase)
		}
		reason = units[i].Waiting.Code + ": " + units[i].Waiting.Message
		return true, nil
	})
	if err != nil {
		return err
	}
	t.print(began, env+" waits, and says why: "+reason)
	return nil
}

// elsewhere waits until the clusters that are not down run a deployment.
func (t *smokeTest) elsewhere(ctx context.Context, key, down string) error {
	return t.limited(ctx, key+" runs in the other cluster meanwhile", func(ctx context.Context) error {
		return system.Poll(ctx, key+" runs outside "+down, func(ctx context.Context) (bool, error) {
			units, err := t.system.PMs[0].Client().Units(ctx, key)
			if err != nil {
				return false, err
			}
			for _, unit := range units {
				if unit.Env != down && unit.Phase != "Available" {
					return false, fmt.Errorf("%s is %s", unit.Env, unit.Phase)
				}
			}
			return true, nil
		})
	})
}

// variant is the first deployment under another key.
func (t *smokeTest) variant(suffix string) *model.OClassDeployment {
	deployment := t.first().Clone()
	deployment.Key += suffix
	if deployment.ODGM != nil {
		deployment.ODGM.Collections = nil
	}
	return deployment
}

// outage posts a deployment while one cluster cannot take it, and follows it through the cluster's return.
func (t *smokeTest) outage(ctx context.Context, deployment *model.OClassDeployment, env string, restore func(context.Context) error, restored string) error {
	pm := t.system.PMs[0]
	if err := t.post(ctx, pm, deployment); err != nil {
		return err
	}
	if err := t.place(ctx, pm, deployment); err != nil {
		return err
	}
	waitCtx, cancel := context.WithTimeout(ctx, stepLimit)
	defer cancel()
	if err := t.waits(waitCtx, deployment.Key, env); err != nil {
		return err
	}
	if err := t.elsewhere(ctx, deployment.Key, env); err != nil {
		return err
	}
	if err := t.limited(ctx, restored, restore); err != nil {
		return err
	}
	return t.available(ctx, pm, deployment)
}

// crmDown posts while a crm is stopped.
func (t *smokeTest) crmDown(ctx context.Context) error {
	crm := t.system.CRMs[1]
	err := t.limited(ctx, crm.Name+" is stopped", func(ctx context.Context) error {
		if !crm.Stop(ctx) {
			return errors.New("SIGTERM was not enough")
		}
		return nil
	})
	if err != nil {
		return err
	}
	return t.outage(ctx, t.variant("-crm-down"), crm.Cluster.Name, func(ctx context.Context) error {
		if err := crm.Start(); err != nil {
			return err
		}
		return crm.WaitReady(ctx)
	}, crm.Name+" is started again")
}

// clusterDown posts while the API server of a cluster is gone.
func (t *smokeTest) clusterDown(ctx context.Context) error {
	cluster := t.clusters[0]
	err := t.step("the API server of "+cluster.Name+" is killed (SIGKILL)", cluster.KillAPIServer)
	if err != nil {
		return err
	}
	return t.outage(ctx, t.variant("-api-down"), cluster.Name, cluster.RestartAPIServer, "the API server of "+cluster.Name+" is started again")
}

// deleteAll leaves both clusters empty.
func (t *smokeTest) deleteAll(ctx context.Context) error {
	for len(t.posted) > 0 {
		if err := t.remove(ctx, t.posted[0].key); err != nil {
			return err
		}
	}
	return nil
}
