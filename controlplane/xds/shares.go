package xds

import (
	"fmt"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/effect"
)

// task begins a part that is not known yet in the proxy that it is given, and returns what finishes the part when the
// policies have changed it. It may run beside others.
type task func(p *effect.Proxy) (finish func() error)

// share are parts that one goroutine begins, lets the policies change, and finishes. An effect decides about each part by
// itself (see the package effect), so that it does not matter which share a part is in.
type share struct {
	proxy  *effect.Proxy
	tasks  []task
	finish []func() error
}

// perShare is how many tasks are worth running beside others.
const perShare = 48

// later leaves a task to the next share, and a full share to whoever is free.
func (w *work) later(t task) {
	w.tasks = append(w.tasks, t)
	if len(w.tasks) == perShare && !w.whole {
		w.crew.Add(w.share())
	}
}

// share takes the tasks that are there. The first has what there is only once, and adds to the proxy.
func (w *work) share() func() error {
	s := &share{proxy: &w.proxy, tasks: w.tasks}
	if w.shared {
		s.proxy = &effect.Proxy{Env: w.env}
	}
	w.tasks, w.shared = nil, true
	return func() error { return w.runShare(s) }
}

// apply lets policies change the parts that are not known yet, and finishes all.
func (w *work) apply() error {
	if len(w.tasks) == 0 && w.shared {
		return w.crew.Wait()
	}
	return w.crew.Wait(w.share())
}

func (w *work) runShare(s *share) error {
	first := s.proxy == &w.proxy
	for _, t := range s.tasks {
		s.finish = append(s.finish, t(s.proxy))
	}
	nothing := len(s.tasks)+len(s.proxy.Passthrough)+len(s.proxy.Direct) == 0
	for _, e := range w.g.effects {
		if e.Apply == nil {
			continue
		}
		if nothing && w.sameRules(e) {
			w.made.applied[e.Kind] = w.earlier.applied[e.Kind]
			continue
		}
		rules := w.in.Rules[e.Kind]
		if rules == nil {
			rules = &policy.Rules{Kind: e.Kind}
		}
		if err := e.Apply(s.proxy, rules); err != nil {
			return fmt.Errorf("apply %s: %w", e.Kind, err)
		}
		if first {
			if err := w.takeAdded(e); err != nil {
				return err
			}
		}
		s.proxy.Clear()
	}
	for _, f := range s.finish {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

// takeAdded finishes what the effect of a kind has added, or takes what it added before.
func (w *work) takeAdded(e effect.Kind) error {
	if w.sameRules(e) {
		w.made.applied[e.Kind] = w.earlier.applied[e.Kind]
		return nil
	}
	added, err := w.proxy.BuildAdded()
	if err != nil {
		return err
	}
	out := &applied{pages: w.proxy.Pages(), warnings: w.proxy.Warnings()}
	for _, p := range added {
		done, err := w.b.packPart(p)
		if err != nil {
			return err
		}
		out.parts = append(out.parts, done)
	}
	w.made.applied[e.Kind] = out
	return nil
}
